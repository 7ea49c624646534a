"""How many tokens a picture needs: labels made by a trained ReViT, the training of its assigner, and rival assigners.

Lengths are counted in ascending order here: label 0 is the shortest.
"""
from vitlab.methods.revit.labels import RULES, histogram, labels_of, make_labels, splits, train_assigner
from vitlab.methods.revit.rivals import Choice, compare, confidence, fixed, learned, oracle, random
from vitlab.methods.revit.table import LengthTable, length_table, logits_of

__all__ = ["RULES", "Choice", "LengthTable", "compare", "confidence", "fixed", "histogram", "labels_of", "learned",
           "length_table", "logits_of", "make_labels", "oracle", "random", "splits", "train_assigner"]
