"""Tables on standard output."""

from typing import Any


def show(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    """Print a table. Columns that no row fills are left out; numbers stand to the right."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=1000)  # as wide as the table is: a wrapped line can be read, a number cut to "0.0…" cannot
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    shown = [name for name in columns if any(row.get(name) is not None for row in rows)]
    for name in shown:
        table.add_column(name, justify="right" if any(isinstance(row.get(name), int | float) for row in rows) else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(_text(row.get(name)) for name in shown))
    console.print(table)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
