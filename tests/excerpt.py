"""What of a notebook the browser runs: all of it, or the cells that its explorer needs, both on few pictures."""
import ast
import re
from collections.abc import Iterator

from nbformat import NotebookNode
from nbformat.v4 import new_notebook

OWN_NAMES = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FEW = {r"\.first\((\d+)": 32, r"\bn=(\d+)": 500, r"\bbatch=(\d+)": 8, r"\brounds=(\d+)": 1}    # at most so many
KERNEL = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}


def is_live(cell: NotebookNode, tag: str = "live") -> bool:
    """Does this cell show an explorer, or the panel that another tag stands for?"""
    return cell.cell_type == "code" and tag in cell.metadata.get("tags", [])


def unrun(book: NotebookNode) -> NotebookNode:
    """The notebook as before its first run; only the explorer keeps its stored picture, which the panel has to replace."""
    cells = [NotebookNode(cell) for cell in book.cells]
    for cell in cells:
        if cell.cell_type == "code":
            cell.update(execution_count=None, outputs=cell.outputs if is_live(cell) else [])
    return new_notebook(cells=cells, metadata={"kernelspec": KERNEL})


def on_few(book: NotebookNode) -> NotebookNode:
    """The same cells, with fewer pictures wherever they state a number of them, and each speed measured in one round.

    What is claimed of the full numbers, nbval runs. A training keeps its own.
    """
    cells = [NotebookNode(cell) for cell in book.cells]
    for cell in cells:
        if cell.cell_type == "code" and "Recipe(" not in cell.source:
            for number, most in FEW.items():
                cell.source = re.sub(number, lambda found: found[0].replace(found[1], str(min(int(found[1]), most))), cell.source)
    return new_notebook(cells=cells, metadata=book.metadata)


def explorer_part(book: NotebookNode, tag: str = "live") -> NotebookNode:
    """The explorer's cell, or another panel's, and before it the cells that bind the names it needs, what these need, and so on.

    A name is its last binding before it is needed. What a cell does to an object of another cell is not seen, such as training
    a net: an explorer shows a net that was loaded.
    """
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    place = next(n for n, cell in enumerate(code) if is_live(cell, tag))
    kept, wanted = [code[place]], needed(code[place].source)
    for cell in reversed(code[:place]):
        if found := wanted & set(bound(ast.parse(cell.source))):
            kept.insert(0, cell)
            wanted = (wanted - found) | needed(cell.source)
    return unrun(new_notebook(cells=kept))


def needed(source: str) -> set[str]:
    """Names that a cell reads and does not bind itself."""
    nodes = list(ast.walk(ast.parse(source)))
    own = {node.arg for node in nodes if isinstance(node, ast.arg)} | set(bound(ast.parse(source)))
    own |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return {node.id for node in nodes if isinstance(node, ast.Name)} - own


def bound(tree: ast.AST) -> Iterator[str]:
    """Names that a cell binds for the cells after it; those of its functions and comprehensions are their own."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif not isinstance(node, OWN_NAMES):
            yield from bound(node)
