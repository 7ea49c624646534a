// What ipywidgets leaves out: names for screen readers, keys that stay in the panel, patches that one can point at.
const OWN_KEYS = "select, input, button, img, .noUi-handle";

function set(node, key, value) {
  if (node && value && node.getAttribute(key) !== value) node.setAttribute(key, value);
}

function name(panel, model) {
  for (const slider of panel.querySelectorAll(".widget-hslider")) {
    const handle = slider.querySelector(".noUi-handle");
    set(handle, "aria-label", slider.querySelector("label")?.textContent);
    set(handle, "aria-valuetext", slider.querySelector(".widget-readout")?.textContent);
  }
  for (const box of panel.querySelectorAll(".widget-dropdown, .widget-text"))
    set(box.querySelector("select, input"), "aria-label", box.querySelector("label")?.textContent);
  for (const button of panel.querySelectorAll("button[title]")) {
    set(button, "aria-label", button.textContent.trim() || button.title);
    set(button.querySelector("i"), "aria-hidden", "true");
  }
  for (const frame of panel.querySelectorAll(".vl-picture"))
    set(frame.querySelector("img"), "alt", [frame.querySelector(".vl-caption")?.textContent ?? "", "arrow keys choose a patch",
      ...(model.get("forcing") ? ["Enter keeps it, drops it, frees it"] : [])].join("; "));
  for (const frame of panel.querySelectorAll(".vl-gazed")) {
    const told = frame.parentElement.querySelector(".vl-told")?.textContent ?? "";
    set(frame.querySelector("img"), "alt", `${frame.querySelector(".vl-caption")?.textContent ?? ""}: ${told}`);
  }
  for (const frame of panel.querySelectorAll(".vl-twin"))
    set(frame.querySelector("img"), "alt", `${frame.querySelector(".vl-caption")?.textContent ?? ""}; stripes where the two differ`);
  for (const button of panel.querySelectorAll(".widget-toggle-button"))
    set(button, "aria-pressed", String(button.classList.contains("mod-active")));
  if (model.get("figure")) {
    set(panel.querySelector(".vl-plots"), "role", "img");
    set(panel.querySelector(".vl-plots"), "aria-label", model.get("figure"));
  }
  for (const told of panel.querySelectorAll(".vl-sentences, .vl-walk, .vl-read, .vl-assigned")) set(told, "aria-live", "polite");
}

function pointing(frame, model, choose, turn) {
  const picture = frame.querySelector("img");
  const [hover, mark] = ["vl-hover", "vl-mark"].map((kind) => {
    const node = document.createElement("div");
    node.className = `vl-cell ${kind}`;
    frame.append(node);
    return node;
  });
  const forced = [];
  const place = (node, patch, side = model.get("grid")) => {
    const [row, column] = patch ?? [];
    node.style.display = row === undefined ? "none" : "block";
    if (row === undefined) return;
    const [height, width] = [picture.clientHeight / side, picture.clientWidth / side];
    Object.assign(node.style, {
      top: `${picture.offsetTop + row * height}px`, left: `${picture.offsetLeft + column * width}px`,
      height: `${height}px`, width: `${width}px` });
  };
  const under = (event) => {
    const box = picture.getBoundingClientRect(), side = model.get("grid");
    return [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width].map(
      (share) => Math.min(Math.max(Math.floor(share * side), 0), side - 1));
  };
  picture.tabIndex = 0;
  picture.draggable = false;
  picture.addEventListener("pointermove", (event) => place(hover, under(event)));
  picture.addEventListener("pointerleave", () => place(hover, null));
  picture.addEventListener("click", (event) => {
    choose(under(event), model.get("forcing"));
    if (model.get("forcing")) turn(under(event));
  });
  picture.addEventListener("keydown", (event) => {
    if (["Enter", " "].includes(event.key) && model.get("forcing") && model.get("patch").length) {
      event.preventDefault();
      turn(model.get("patch"));
    }
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!by) return;
    event.preventDefault();
    const side = model.get("grid"), [row, column] = model.get("patch");
    choose(row === undefined ? [side >> 1, side >> 1] : [row + by[0], column + by[1]].map(
      (n) => Math.min(Math.max(n, 0), side - 1)), true);
  });
  const draw = () => {
    place(mark, model.get("patch"));
    const side = model.get("hand"), said = ["keep", "drop"].flatMap((kind) => model.get(kind).map((patch) => [kind, patch]));
    while (forced.length > said.length) forced.pop().remove();              // what is there stays: a new node is a change to see
    while (forced.length < said.length) frame.append(forced[forced.push(document.createElement("div")) - 1]);
    said.forEach(([kind, patch], n) => {
      forced[n].className = `vl-cell vl-${kind}`;
      place(forced[n], [Math.floor(patch / side), patch % side], side);
    });
  };
  picture.addEventListener("load", draw);                                   // until then a new picture has no size
  return draw;
}

function furnish(panel, model) {
  const choose = (patch, stay) => {
    const again = !stay && String(patch) === String(model.get("patch"));
    model.set("patch", again ? [] : patch);
    model.save_changes();
  };
  let turns = 0;
  const turn = ([row, column]) => {
    model.set("turn", [row, column, ++turns]);
    model.save_changes();
  };
  const marks = [...panel.querySelectorAll(".vl-picture")].map((frame) => pointing(frame, model, choose, turn));
  const draw = () => marks.forEach((mark) => mark());
  let due = 0;
  const soon = () => { due ||= setTimeout(() => { due = 0; name(panel, model); draw(); }, 60); };
  const shown = ["patch", "grid", "keep", "drop", "hand"].map((trait) => `change:${trait}`);
  shown.forEach((change) => model.on(change, draw));
  model.on("change:forcing", soon);
  const changes = new MutationObserver(soon);
  changes.observe(panel, { subtree: true, childList: true, characterData: true, attributeFilter: ["class"] });
  const widths = new ResizeObserver(() => { soon(); window.dispatchEvent(new Event("resize")); });   // plotly fits its figure
  widths.observe(panel);
  const sizes = new ResizeObserver(soon);                                   // of pictures, too: a change of theme takes their size away
  panel.querySelectorAll(".vl-picture img").forEach((picture) => sizes.observe(picture));
  panel.addEventListener("keydown", (event) => {                            // arrows step through a slice
    const arrow = { ArrowLeft: ".vl-back", ArrowRight: ".vl-next" }[event.key];
    if (!arrow || !event.target.closest(".vl-slice button")) return;
    event.preventDefault();
    panel.querySelector(`.vl-slice ${arrow}`)?.click();
  });
  panel.addEventListener("keydown", (event) => {                            // or an arrow moves the notebook to the next cell
    if (event.target.closest(OWN_KEYS) && event.key !== "Escape" && !(event.ctrlKey || event.metaKey || event.altKey))
      event.stopPropagation();
  });
  soon();
  return () => {
    changes.disconnect();
    widths.disconnect();
    sizes.disconnect();
    shown.forEach((change) => model.off(change, draw));
    model.off("change:forcing", soon);
  };
}

function render({ model, el }) {
  let end = () => {}, tries = 0;
  const begin = () => {
    const panel = el.closest(".vl-panel");
    if (panel && panel.querySelectorAll(".vl-picture img").length === model.get("pictures")) end = furnish(panel, model);
    else if (tries++ < 600) setTimeout(begin, 50);
  };
  begin();
  return () => { tries = Infinity; end(); };
}

export default { render };
