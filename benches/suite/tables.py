"""Results as text: aligned for the terminal, markdown for the documentation."""


def number(value):
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def with_spread(values, form=number):
    if values is None:
        return "-"
    if values["min"] == values["max"]:
        return form(values["median"])
    return f"{form(values['median'])} ({form(values['min'])}..{form(values['max'])})"


def ratio(value):
    return f"{value:.2f}"


def name_of(row, several):
    workers = row["runs"][0]["workers"] if row["runs"] else row["workers"]
    return row["peer"] + (f", {workers} worker{'s' if workers > 1 else ''}" if several else "")


def note_of(row):
    if row["reason"]:
        return row["reason"]
    disturbed = sum(run["disturbed"] for run in row["runs"])
    return f"disturbed: {disturbed} of {len(row['runs'])} runs" if disturbed else ""


def pairs_of(row):
    """How many rounds the ratios are of, when it is not all."""
    pairs = max((values.get("ratio") or {}).get("pairs", 0) for values in row["figures"].values())
    return f"{pairs} of {len(row['runs'])} rounds compare" if pairs < len(row["runs"]) else ""


def tables_of(result):
    """Two tables: the figures and their ratios to the base."""
    several = any(row["workers"] > 1 for row in result["rows"])
    keys = list(result["figures"])
    figures = [["", *(result["figures"][key] for key in keys), "bottleneck", ""]]
    ratios = [["ratio to " + result["base"], *(result["figures"][key] for key in keys), ""]]
    for row in result["rows"]:
        values = row["figures"]
        cells = [with_spread(values.get(key)) for key in keys]
        figures.append([name_of(row, several), *cells, row["bottleneck"] or "-", note_of(row)])
        if any("ratio" in values.get(key, {}) for key in keys):
            cells = [with_spread(values[key].get("ratio"), ratio) for key in keys]
            ratios.append([name_of(row, several), *cells, pairs_of(row)])
    filled = [at for at in range(len(ratios[0])) if any(row[at] not in ("", "-") for row in ratios[1:])]
    ratios = [[row[at] for at in filled] for row in ratios]
    return [figures] + ([ratios] if len(ratios) > 1 else [])


def heading(result):
    rounds = f"{result['rounds']} round{'s' if result['rounds'] > 1 else ''}"
    return f"{result['about']} ({rounds})"


def plain(result):
    lines = [f"{result['name']}: {heading(result)}", ""]
    for table in tables_of(result):
        widths = [max(len(row[at]) for row in table) for at in range(len(table[0]))]
        for row in table:
            cells = [cell.ljust(width) if at == 0 or at == len(row) - 1 else cell.rjust(width)
                     for at, (cell, width) in enumerate(zip(row, widths))]
            lines.append("  ".join(cells).rstrip())
        lines.append("")
    return "\n".join(lines)


def markdown_table(table):
    sides = [":--" if at == 0 or not title else "--:" for at, title in enumerate(table[0])]
    lines = [table[0], sides, *table[1:]]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def rows_with_one_worker(result):
    return {row["peer"]: row for row in result["rows"] if row["workers"] == min(row["workers"] for row in result["rows"])}


def summary(results):
    """One table of all: a row for each scenario, a column for each peer."""
    peers = list(dict.fromkeys(row["peer"] for result in results["scenarios"] for row in result["rows"]))
    table = [["", *peers]]
    for result in results["scenarios"]:
        rows = rows_with_one_worker(result)
        title, cell = result["name"], None
        if "cpu" in result["figures"]:
            def cell(values):
                return ratio(values["cpu"]["ratio"]["median"]) if values.get("cpu", {}).get("ratio") else "-"
        elif "memory" in result["figures"]:
            title += ", bytes each"

            def cell(values):
                return number(values["memory"]["median"]) if values else "-"
        elif "memory_peak" in result["figures"]:
            title += ", MiB"

            def cell(values):
                return number(values["memory_peak"]["median"]) if values else "-"
        if cell and len({row["workers"] for row in result["rows"]}) == 1:
            table.append([title, *(cell(rows[peer]["figures"]) if peer in rows else "-" for peer in peers)])
    return markdown_table(table)


def about(results):
    return (f"Measured {results['date']} on {results['cpu']} ({results['cpus']} CPUs), Linux {results['kernel']}, by\n"
            f"`{results['command']}`.")


def in_readme(text, results):
    """The README's text with the summary between its marks."""
    begin, end = "<!-- benchmarks -->\n", "<!-- end of benchmarks -->"
    before, rest = text.split(begin, 1)
    return before + begin + summary(results) + "\n\n" + about(results) + "\n" + end + rest.split(end, 1)[1]


def markdown(results, charts):
    """The page of the documentation. `charts` are pairs of file and title."""
    parts = ["# Benchmarks", (
        f"{about(results)}\nWhat is measured and how: [benches/README.md](../../benches/README.md). "
        "All raw figures: [results.json](results.json)."), (
        "Median (smallest..largest) over the rounds. The ratios are made pair by pair within a round; below 1 is less\n"
        f"than what {results['base']} needs or reaches. \"Bottleneck\" is who had no CPU time left: where it\n"
        "is the load, the speed says nothing about the server, its CPU does. A run in which other processes were\n"
        "busy, or the CPUs moved, is repeated, and marked as disturbed where that did not help.")]
    parts += [f"![{title}]({file})" for file, title in charts]
    parts += ["CPU as a ratio to bare-epoll, where nothing else is said:", summary(results)]
    if results["versions"]:
        parts.append(markdown_table([["peer", "version"], *map(list, results["versions"].items())]))
    for result in results["scenarios"]:
        parts.append(f"## {result['name']}")
        text = heading(result)
        parts.append(text[0].upper() + text[1:] + ".")
        parts += [markdown_table(table) for table in tables_of(result)]
    if results["failures"]:
        parts.append("## What failed\n\n" + "\n".join(f"- {failure}" for failure in results["failures"]))
    return "\n\n".join(parts) + "\n"
