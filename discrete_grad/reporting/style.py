"""The page's style sheet and its colours."""

__all__ = ["LIGHT", "STYLE"]

LIGHT = {
    "page": "#ffffff",
    "ink": "#1d2127",
    "soft": "#5b6470",
    "line": "#dfe3e8",
    "band": "#b9c2cd",
    "heat": "86 180 233",
    "worse": "230 159 0",
    "panel": "#f5f7f9",
    "series0": "#868e99",
    "series1": "#0072b2",
    "series2": "#d55e00",
    "series3": "#009e73",
    "series4": "#a3508a",
    "series5": "#b08900",
    "series6": "#4a6fa5",
}

_LIGHT = "".join(f" --{name}: {color};" for name, color in LIGHT.items())
STYLE = (
    f":root {{ color-scheme: light dark;{_LIGHT} }}\n"
    + """\
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15181c; --ink: #e4e7eb; --soft: #9aa4b0; --line: #343a42; --band: #4a525d;
    --heat: 0 105 165; --worse: 150 78 0; --panel: #1e2227;
    --series0: #9aa4b0; --series1: #56b4e9; --series2: #f0883e; --series3: #2bc79a;
    --series4: #d68fc0; --series5: #e3c04b; --series6: #8fb1e3;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 63rem; padding: 2.5rem 1.25rem 4rem;
  background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .35rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.75rem 0 .35rem; }
h3 { font-size: .95rem; margin: 1.4rem 0 .4rem; overflow-wrap: anywhere; }
p { margin: .35rem 0 .8rem; max-width: 46rem; overflow-wrap: anywhere; }
.facts, .note, figcaption, footer { color: var(--soft); font-size: .875rem; }
.facts { max-width: none; }
.verdict {
  margin: 1.5rem 0 0; padding: 1rem 1.25rem; background: var(--panel);
  border-left: 4px solid var(--series3); border-radius: 0 6px 6px 0;
}
.verdict p { margin: .2rem 0; max-width: none; }
.verdict p:first-child { font-size: 1.1rem; font-weight: 600; }
.wide { overflow-x: auto; }
table.rows td { font-size: .95rem; }
pre.copy {
  user-select: all; overflow-x: auto; padding: .6rem .8rem; background: var(--panel);
  border-radius: 6px; font-size: .84rem;
}
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; }
th, td { padding: .32rem .45rem; text-align: right; white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; line-height: 1.25; }
th:first-child, td:first-child {
  text-align: left; padding-left: 0; max-width: 20rem; overflow: hidden; text-overflow: ellipsis;
}
th { color: var(--soft); font-weight: 500; border-bottom: 1px solid var(--line); }
td { border-bottom: 1px solid var(--line); }
tr.chosen td { font-weight: 600; background: var(--panel); }
details { margin: .6rem 0; }
summary { cursor: pointer; color: var(--soft); font-size: .875rem; overflow-wrap: anywhere; }
dl {
  display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; font-size: .875rem;
  margin: .6rem 0;
}
dt { color: var(--soft); max-width: 20rem; overflow: hidden; text-overflow: ellipsis; }
dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: .8rem 0 0; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: inherit !important; }
.heat { display: grid; grid-template-columns: minmax(5rem, 10rem) 1fr; gap: 3px .8rem; }
.heat > span {
  font-size: .8125rem; text-align: right; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; line-height: 1.75rem;
}
.cells { display: flex; gap: 3px; min-width: 0; }
.cells > span {
  flex: 1 1 0; min-width: 0; padding: 0 .3rem; border-radius: 3px; border: 1.5px solid transparent;
  background: rgb(var(--heat) / calc(.06 + .94 * var(--p)));
  font-size: .75rem; line-height: 1.6rem; text-align: center;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
}
.cells > .likely { font-weight: 700; }
.cells > .best { border-color: var(--ink); border-style: dashed; }
.swaps { grid-template-columns: fit-content(9rem) 1fr 1fr; }
.swaps > b { font-size: .8125rem; font-weight: 500; color: var(--soft); }
.swaps .cells > span { border-color: var(--line); padding: 0 .1rem; }
.swaps .cells > .better { background: rgb(var(--heat) / var(--p)); }
.swaps .cells > .worse { background: rgb(var(--worse) / var(--p)); }
.swaps .cells > .own { background: none; border-color: var(--ink); font-weight: 700; }
.scale { display: flex; gap: .5rem; align-items: center; font-size: .8125rem; margin: .6rem 0; }
.scale > i {
  width: 12rem; height: .8rem; border-radius: 3px;
  background: linear-gradient(
    to right,
    rgb(var(--worse)), rgb(var(--worse) / 0) 50%, rgb(var(--heat) / 0) 50%, rgb(var(--heat))
  );
}
.cells > .rest, .swaps .cells > .rest {
  background: none; border-color: transparent; color: var(--soft);
}
@media print {
  body { max-width: none; }
  h2 { break-after: avoid; }
  figure { break-inside: avoid; }
}
"""
)
