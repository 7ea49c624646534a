"""What a panel does in its worker's thread: look, explain, find, measure, and show each as soon as it is there."""
from dataclasses import asdict, fields, replace
from functools import partial

from pandas import DataFrame

from vitlab.widgets import readouts, text
from vitlab.widgets.engine import GATE, fits_not
from vitlab.widgets.records import Ask, Look, Taken, Timing, Upload
from vitlab.widgets.worker import Turn

DEBOUNCE = 0.12                             # seconds the controls must rest before speed is measured
SPEED = ("images_per_s", "speed_up", "promise", "paper", "runs", "exits", "beside", "compiling_s")
TAKEN = tuple(field.name for field in fields(Taken))


class Answering:
    """The worker's half of a `Panel`, over the parts that the panel makes; the other half listens to a person."""

    def work(self, ask: Ask, turn: Turn) -> None:
        """Look, explain, then measure; give up as soon as something newer is asked."""
        ask = self.ways.settled(ask)
        self.last_error, fresh = None, self.seen[0] != ask.sight
        if fresh and isinstance(ask.image, Upload):
            self.open(ask.image)
        look = self.engine.look(ask) if fresh else self.seen[1]
        free = self.unforced(ask) if ask.hand else look
        if turn.stale():
            return
        self.show_look(ask, look, free)
        self.show_twin(ask, look)
        if ask.deep and self.deep != ask.sight:
            self.view.depth.add_class("vl-old")                                # another's, until its own comes
        self.gaze.begin(ask, look)
        self.looked = turn.number
        if other := self.paced != ask.pace:                                    # the speed on the page is another point's
            self.paced = None
            self.view.fade_speed()
        alone = readouts.key(ask, self.methods[ask.model].adaptive)
        self.readouts.wait(ask, alone)
        if fresh:
            self.seen, heat = (None, None), self.engine.relevance(ask, look)
            if turn.stale():
                return
            self.view.show_relevance(look, heat)
            self.seen = ask.sight, look
        if not self.gaze.look(ask, look, turn):
            return
        if ask.deep and self.deep != ask.sight:
            rows = self.engine.depth(ask, look, turn.stale)
            if rows is None or turn.stale():
                return
            self.show_depth(ask, look, rows)
        if ask.slice is None:
            self.slices.forget()
        elif self.slices.slice != self.slices.key(ask) and not self.find(ask, turn):
            return
        self.tell(self.ways.why(ask))
        lone = ask.alone and self.readouts.of != alone
        if (other or lone) and not turn.settle(DEBOUNCE):
            self.measure(ask, look, turn)

    def measure(self, ask: Ask, look: Look, turn: Turn) -> None:
        """Whatever takes time: to compile, to find the fastest way, the speed, and on demand what one picture takes."""
        ready = self.pace(ask, look, turn)
        if ready is None or turn.stale():
            return
        if ready.sight != ask.sight:                                           # another precision was found, which answers anew
            return self.work(ready, turn)
        if self.told or self.ways.why(ready):
            self.tell(self.ways.why(ready))
        alone = readouts.key(ready, self.methods[ready.model].adaptive)
        if ready.alone and self.readouts.of != alone:
            one = self.taken_alone(ready, look, turn)
            if one is not None and not turn.stale():
                self.readouts.show(ready, alone, one, self.known.versus(ready.model))
                self.result = {**self.result, **asdict(one)}

    def taken_alone(self, ask: Ask, look: Look, turn: Turn) -> Taken | None:
        """What one picture takes, once that is compiled too."""
        one = [(each, look.subject.image.to(ask.device)) for each in self.ways.raced(ask)[:2]] if ask.fused else []
        if not self.ways.compile(one, turn.stale, self.tell) or not self.ways.rested(turn.stale, self.tell):
            return None
        if self.told:
            self.tell(self.ways.why(ask))
        return readouts.taken(self.engine, self.ways.settled(ask), look, turn.stale)

    def tell(self, words: str | None) -> None:
        """What is waited for, or why something is not as it was wanted."""
        self.told = words
        self.view.show_note(words)

    def find(self, ask: Ask, turn: Turn) -> bool:
        """Find the slice and go to its first picture; True where this one stays in view and nothing newer has come in."""
        def report(count: int) -> None:
            self.walk.tell(text.asking(ask.slice, count, len(self.slices.pool)), False)

        refused = None
        try:
            rows = self.slices.find(ask, turn.stale, report)
        except ValueError as error:
            rows, refused = [], text.sentence(error)
        if rows is None or turn.stale():
            return False
        self.last_error = refused
        to = self.slices.hold(ask, rows, refused)
        if to == ask.image:
            self.show_walk(ask)
            return True
        self.set(image=to)                                                     # whose look tells where it is in the slice
        return False

    def show_walk(self, ask: Ask) -> None:
        """Where in the slice the picture in view is."""
        if ask.slice and self.slices.slice == self.slices.key(ask):
            part, found = ask.slice, self.slices
            told = text.walk(part, found.rows, ask.image, self.images.classes, len(found.pool), len(self.images))
            self.walk.tell(text.note(found.refused, True) if found.refused else told, bool(found.rows))

    def unforced(self, ask: Ask) -> Look:
        """The same look with nothing forced: the one that was shown before, or a pass more."""
        bare = replace(ask, hand=None)
        if self.free[0] != bare.sight:
            self.free = bare.sight, self.engine.look(bare)
        return self.free[1]

    def show_twin(self, ask: Ask, look: Look) -> None:
        """What is pinned, beside what is shown: one pass more where it has not seen this picture."""
        other = ask.other
        if other is None:
            return self.twin.hide()
        if self.other[0] != other.sight:
            self.other = other.sight, self.engine.look(other)
        self.twin.show(ask, look, self.other[1], self.known.named)
        seen = self.other[1]
        self.result = {**self.result, "pinned": {
            "model": other.model, "point": other.point, "prediction": self.known.named(other.model, seen.prediction),
            "confidence": seen.confidence, "right": seen.right, "tokens": seen.tokens, "gmacs": seen.gmacs}}
        if self.paced == ask.pace:
            self.twin.show_speed(self.timing, self.known.named)

    def open(self, upload: Upload) -> None:
        """Read a picture from outside, here and not in the notebook's thread; where it is none the panel goes back."""
        try:
            with GATE.look(f"the reading of {upload.name}"):
                upload.picture
        except BaseException:
            if self.subject is upload:
                self.subject = upload.before
            raise

    def pace(self, ask: Ask, look: Look, turn: Turn) -> Ask | None:
        """Measure the speed and show it; a batch that does not fit is halved until it does. What was measured, in the way that
        was chosen; None when a newer request came in."""
        while True:
            try:
                ready = self.ways.ready(ask, turn.stale, self.tell)
                if ready is None or ready.sight != ask.sight or self.paced == ready.pace:
                    return ready
                timing = self.engine.timing(ready, turn.stale, partial(self.show_speed, ready))
                break
            except Exception as error:
                if not fits_not(error) or ask.batch == 1:
                    raise
            ask = self.halved(ask)                                             # only here is the failed pass's memory free
        if timing is None or turn.stale():
            return None
        self.paced = ready.pace
        self.show_speed(ready, timing)
        self.view.remember(ready, self.known.hue(ready.model), look.gmacs, timing.images_per_s)
        return ready

    def halved(self, ask: Ask) -> Ask:
        """The same with half the batch, and a note that says so."""
        self.engine.forget(ask.device)
        half = replace(ask, batch=ask.batch // 2)
        with self.silently():
            self.controls.offer(half.batch)
        self.told = None
        self.view.show_note(f"batch {ask.batch} does not fit into the memory of {ask.device}; going on with {half.batch}")
        return half

    def show_depth(self, ask: Ask, look: Look, rows: DataFrame) -> None:
        """The depth of what is shown."""
        sentence = text.knew(rows, look, lambda k: self.known.named(ask.model, k), self.known.exits(ask.model))
        self.view.show_depth(rows, self.known.classes[ask.model], sentence)
        self.deep = ask.sight

    def show_look(self, ask: Ask, look: Look, free: Look) -> None:
        """Answer and pictures, and what differs from `free`, where nothing is forced.

        A layer slider that stands at the end stays there when the number of layers changes.
        """
        with self.silently():
            self.controls.layer.max = max(len(look.layers), 2)
            if ask.layer < 0:
                self.controls.layer.value = self.controls.layer.max
        alone = readouts.key(ask, self.methods[ask.model].adaptive)
        self.result = {
            "model": ask.model, "point": ask.point, "image": look.subject.name,
            "prediction": self.known.named(ask.model, look.prediction), "confidence": look.confidence, "right": look.right,
            "exit": look.exit, "tokens": look.tokens, "patches": look.patches, "gmacs": look.gmacs, "device": ask.device,
            "precision": ask.precision, "compiled": ask.fused, "batch": ask.batch, "forced": ask.hand and asdict(ask.hand),
            "pinned": None, **{key: self.result.get(key) if self.paced == ask.pace else None for key in SPEED},
            **{key: self.result.get(key) if self.readouts.of == alone else None for key in TAKEN}}
        exits = self.known.exits(ask.model)
        self.asked = ask
        self.view.show_answer(ask, look, lambda k: self.known.named(ask.model, k), exits)
        with self.silently():
            self.view.show_layer(look, min(ask.layer, len(look.layers) - 1), exits)
        self.view.show_life(look, exits)
        self.assigned.show(self.methods[ask.model], look.word, look.exit, exits)
        self.show_hand(ask, look, free)
        self.show_walk(ask)
        if self.view.accuracy:
            self.view.show_place(None if ask.hand else self.known.place(ask.model, ask.point))

    def show_hand(self, ask: Ask, look: Look, free: Look) -> None:
        """What is forced, and what it changed."""
        if ask.hand is None:
            self.free = ask.sight, look
        sentence = text.by_hand(ask.hand, look, free, lambda k: self.known.named(ask.model, k)) if ask.hand else ""
        self.view.hand.value = sentence

    def show_speed(self, ask: Ask, timing: Timing) -> None:
        """The sentence about speed, and the same in `result`."""
        paper = None if ask.hand else self.known.papers[ask.model].get(ask.point)
        self.result = {**self.result, **asdict(timing), "paper": paper and paper[0], "compiled": ask.fused}
        self.timing = timing
        if ask.pinned:
            self.twin.show_speed(timing, self.known.named)
        self.view.show_speed(text.speed(timing, ask, paper, self.known.versus(ask.model), self.known.exits(ask.model),
                                        self.ways.told(ask)))
