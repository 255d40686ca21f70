"""Bar charts as SVG, drawn in tones that read on light and on dark ground."""
import os

from .catalogue import CHARTS, MEMORY_CHART

INK, OURS, OTHERS, LINE = "#7a828c", "#2f81d7", "#9a8f80", "#d2691e"


def pyplot():
    """matplotlib, or None when there is none."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("svg")
    import matplotlib.pyplot as plot
    plot.rcParams.update({
        "svg.fonttype": "none", "svg.hashsalt": "benches", "font.family": "sans-serif", "font.size": 9,
        "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
        "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False,
    })
    return plot


def bars(axes, title, values, line, places):
    """`values`: name -> median, min, max; the first on top. `places`: for how many bars there shall be room."""
    names = list(values)
    most = max(value["max"] for value in values.values())
    for at, name in enumerate(names):
        value = values[name]
        low, high = value["median"] - value["min"], value["max"] - value["median"]
        axes.barh(at, value["median"], height=0.7, color=OURS if name.startswith("wharf") else OTHERS,
                  xerr=[[low], [high]], error_kw={"ecolor": INK, "elinewidth": 1})
        text = f"{value['median']:.2f}" if line is not None else f"{value['median']:,.0f}"
        axes.text(value["max"] + most * 0.02, at, text, va="center", fontsize=8)
    if line is not None:
        axes.axvline(line, color=LINE, linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(places - 0.4, -0.6)
    axes.set_xlim(0, most * 1.18)
    axes.tick_params(length=0)
    axes.set_title(title)


def draw(plot, path, title, panels, line):
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    tallest = max(len(values) for _, values in panels)
    figure, grid = plot.subplots(rows, columns, squeeze=False, layout="constrained",
                                 figsize=(3.6 * columns + 0.4, rows * (0.24 * tallest + 0.7) + 0.4))
    figure.suptitle(title, fontsize=11)
    for at, axes in enumerate(grid.flat):
        if at < len(panels):
            bars(axes, *panels[at], line, tallest)
        else:
            axes.axis("off")
    figure.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    plot.close(figure)


def write_all(results, folder):
    """The charts for which there are figures: pairs of file and title. None when they cannot be drawn."""
    plot = pyplot()
    if plot is None:
        return None
    by_name, written = {result["name"]: result for result in results["scenarios"]}, []

    def panel(name, pick):
        values = {row["peer"]: pick(row["figures"]) for row in by_name[name]["rows"] if row["figures"]}
        return name, {peer: value for peer, value in values.items() if value}

    for file, title, names in CHARTS:
        panels = [panel(name, lambda figures: figures["cpu"].get("ratio")) for name in names if name in by_name]
        panels = [(name, values) for name, values in panels if values]
        if panels:
            draw(plot, os.path.join(folder, file), title, panels, 1.0)
            written.append((file, title))
    file, title, name = MEMORY_CHART
    if name in by_name:
        _, values = panel(name, lambda figures: figures["memory"])
        if values:
            draw(plot, os.path.join(folder, file), title, [("10,000 connections", values)], None)
            written.append((file, title))
    return written
