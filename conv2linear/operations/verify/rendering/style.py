"""The style of the page: light and dark as the reader has it, from a phone's width on."""

STYLE = """\
:root {
  color-scheme: light dark;
  --text: #1c2024; --muted: #5c6570; --page: #ffffff; --panel: #f5f7f9; --line: #d9dee3;
  --good: #17733a; --good-panel: #e6f4ea; --bad: #b3261e; --bad-panel: #fcebea;
  --open: #7a5b00; --open-panel: #fff5d6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #e4e7ea; --muted: #a0a9b2; --page: #14171a; --panel: #1e2327; --line: #363d44;
    --good: #6fd08f; --good-panel: #16301f; --bad: #ff9a91; --bad-panel: #3a1917;
    --open: #f2c94c; --open-panel: #332a0e;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 62rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
header { padding: 1rem 1.25rem; border-radius: .5rem; border-left: .4rem solid; }
header.pass { background: var(--good-panel); border-color: var(--good); }
header.fail { background: var(--bad-panel); border-color: var(--bad); }
header.skip { background: var(--open-panel); border-color: var(--open); }
header.pass h1, .badge.pass { color: var(--good); }
header.fail h1, .badge.fail { color: var(--bad); }
header.skip h1, .badge.skip { color: var(--open); }
h1 { margin: 0; font-size: 1.75rem; line-height: 1.2; }
h1 span { margin-right: .6rem; }
h2 { margin: 2rem 0 .5rem; font-size: 1.15rem; }
header p { margin: .35rem 0 0; }
.name { font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem; margin: .5rem 0 0; }
dt { color: var(--muted); }
dd { margin: 0; }
figure { margin: 1rem 0; padding: 1rem 1.25rem; background: var(--panel); border-radius: .5rem; }
figcaption { margin-top: .5rem; color: var(--muted); font-size: .9rem; }
.chart p { margin: .5rem 0 .2rem; }
svg { display: block; width: 100%; height: 1rem; border-radius: .2rem; }
.track { fill: var(--line); }
.within { fill: var(--good); }
.over { fill: var(--bad); }
.bound { stroke: var(--text); stroke-width: 2; vector-effect: non-scaling-stroke; }
.axis { position: relative; height: 1.5rem; color: var(--muted); font-size: .85rem; }
.axis span + span { position: absolute; white-space: nowrap; transform: translateX(-50%); }
.warning { color: var(--open); }
table { width: 100%; border-collapse: collapse; }
th, td { padding: .4rem .75rem .4rem 0; text-align: left; vertical-align: top; }
th { color: var(--muted); font-weight: 500; white-space: nowrap; }
tr { border-bottom: 1px solid var(--line); }
td:first-child { min-width: 9rem; }
.badge { white-space: nowrap; font-weight: 600; }
code { font: .85rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
summary { cursor: pointer; }
footer { margin: 2rem 0 1rem; color: var(--muted); font-size: .9rem; }
@media (max-width: 40rem) {
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
  thead { display: none; }
  table, tbody, tr, td { display: block; }
  tr { padding: .6rem 0; }
  td { padding: .1rem 0; }
  td:first-child { font-weight: 600; }
}
@media print { details > * { display: block; } }
"""
