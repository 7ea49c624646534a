"""What editors and type checkers read: the names of `vitlab`, which are loaded when they are first used."""
from vitlab import attribution as attribution
from vitlab import backbones as backbones
from vitlab import block as block
from vitlab import cascade as cascade
from vitlab import data as data
from vitlab import edge as edge
from vitlab import measure as measure
from vitlab import methods as methods
from vitlab import official as official
from vitlab import plots as plots
from vitlab import schedules as schedules
from vitlab import tokens as tokens
from vitlab.cascade import budget as budget
from vitlab.checkpoint import save as save
from vitlab.compiled import Compiled as Compiled
from vitlab.edge import export as export
from vitlab.forced import Forced as Forced
from vitlab.governor import Governor as Governor
from vitlab.measure import answers as answers
from vitlab.measure import gmacs as gmacs
from vitlab.measure import latency as latency
from vitlab.measure import sweep as sweep
from vitlab.measure import throughput as throughput
from vitlab.method import Dense as Dense
from vitlab.methods import METHODS as METHODS
from vitlab.methods import create as create
from vitlab.methods import load as load
from vitlab.methods.adaptive_depth import AdaptiveDepth as AdaptiveDepth
from vitlab.methods.dvt import DVT as DVT
from vitlab.methods.early_exit import EarlyExit as EarlyExit
from vitlab.methods.revit import ReViT as ReViT
from vitlab.methods.revit import lengths as lengths
from vitlab.methods.revit.assigner import TLA as TLA
from vitlab.methods.spvit import SPViT as SPViT
from vitlab.methods.supervit import SuperViT as SuperViT
from vitlab.methods.svit import SViT as SViT
from vitlab.methods.tome import ToMe as ToMe
from vitlab.recipe import Recipe as Recipe
from vitlab.reporting import report as report
from vitlab.serving import predict as predict
from vitlab.sharing import pull as pull
from vitlab.sharing import push as push
from vitlab.trace import Trace as Trace
from vitlab.train import fit as fit
from vitlab.widgets import explore as explore
from vitlab.widgets import govern as govern

__version__: str
HOME: dict[str, str]
ROOMS: dict[str, str]
PUBLIC: list[str]
