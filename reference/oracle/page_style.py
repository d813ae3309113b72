"""The style of a report's page, light and dark, and the script of its copy buttons."""

STYLE = """
:root { color-scheme: light dark;
  --paper: #ffffff; --panel: #f6f7f9; --ink: #17202b; --soft: #5c6773; --line: #d8dde3;
  --blue: #1f6fd0; --orange: #d9610b; --pos: #6db1f7; --neg: #f292ab; --good: #1b7f4b;
  --bad: #c02f2f; --pixel: #ffffff; --cell: #ffffff; --on: #ffffff; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #12161c; --panel: #1a2028; --ink: #e8ecf1; --soft: #9aa6b3; --line: #343d48;
  --blue: #5aa4f5; --orange: #f58a3c; --pos: #22619f; --neg: #8d3450; --good: #4cc38a;
  --bad: #ff7b72; --pixel: #1f2731; --cell: #12161c; --on: #0c1014; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h1 span { color: var(--soft); font-weight: 400; }
h2 { font-size: 1.2rem; margin: 3rem 0 .75rem; }
h3 { font-size: 1rem; margin: 0 0 .5rem; }
code, pre { font: .9em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
.verdict { font-size: 1.15rem; font-weight: 600; margin: .35rem 0 1rem; color: var(--bad); }
.verdict.ok { color: var(--good); }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0; }
dl.facts dt { color: var(--soft); } dl.facts dd { margin: 0; overflow-wrap: anywhere; }
.cause { border: 1px solid var(--line); border-radius: .6rem; margin: 2rem 0; padding: 1.25rem; }
.cause > .count { color: var(--soft); margin: 0; font-size: .9rem; }
.diagnosis { font-size: 1.65rem; line-height: 1.25; font-weight: 650; margin: .15rem 0 1rem;
  overflow-wrap: anywhere; }
.diagnosis.several { font-size: 1rem; line-height: 1.4; }
.diagnosis.several span { display: block; padding-left: 1em; text-indent: -1em; }
.law { margin: 0 0 1rem; } .law code { font-weight: 600; }
.values { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 0 0 1.25rem; }
.values div { display: flex; flex-direction: column; }
.values dt { color: var(--soft); font-size: .85rem; }
.values dd { margin: 0; font: 600 1.05rem/1.4 ui-monospace, Menlo, "Liberation Mono", monospace;
  overflow-wrap: anywhere; }
.values .was { color: var(--orange); } .values .is { color: var(--blue); }
.message { color: var(--soft); margin: 0 0 1rem; overflow-wrap: anywhere; }
.message.alone { color: var(--ink); font-size: 1.05rem; }
.code { position: relative; margin: 0 0 1rem; }
.code pre { background: var(--panel); border: 1px solid var(--line); border-radius: .4rem;
  margin: 0; padding: .75rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.code button { position: absolute; top: .5rem; right: .5rem; font: inherit; font-size: .8rem;
  color: var(--ink); background: var(--paper); border: 1px solid var(--line);
  border-radius: .3rem; padding: .15rem .6rem; cursor: pointer; }
.code button:focus-visible { outline: 2px solid var(--blue); outline-offset: 1px; }
.picture { background: var(--panel); border-radius: .5rem; padding: 1rem; margin: 0 0 1rem; }
.picture .summary { font-weight: 600; margin: 0 0 .25rem; }
.picture .about { color: var(--soft); margin: 0 0 .75rem; font-size: .92rem; }
.panels { display: flex; flex-wrap: wrap; gap: 1.25rem; align-items: flex-start; }
.panels > div { flex: 0 1 auto; max-width: 100%; }
.panels h4 { font-size: .95rem; margin: 0 0 .3rem; font-weight: 600; }
.panels h4.expected { color: var(--blue); } .panels h4.found { color: var(--orange); }
.heats { margin-top: 1rem; }
.heats .panels { display: grid;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); }
.points > div > svg { max-width: min(36rem, 100%); }
svg { max-width: 100%; height: auto; display: block; }
svg text { font: 12px system-ui, "Liberation Sans", sans-serif; text-anchor: middle;
  dominant-baseline: central; fill: var(--ink); }
svg .axis { fill: var(--soft); font-size: 12px; }
svg .value { font-size: 13px; } svg .long { font-size: 11px; }
svg .number { fill: var(--on); font-weight: 700; font-size: 11px; }
svg .cell, svg .pixel { fill: var(--cell); stroke: var(--line); stroke-width: 1; }
svg .pixel { fill: var(--pixel); }
svg .pos { fill: var(--pos); } svg .neg { fill: var(--neg); }
svg .wrong { fill: none; stroke: var(--orange); stroke-width: 2.5; }
svg .centre { fill: none; stroke: var(--soft); stroke-width: 2; }
svg .roi { fill: none; stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 7 5; }
svg .bin { fill: var(--soft); fill-opacity: .13; stroke: var(--soft); stroke-width: 1.5; }
svg .grid { fill: var(--soft); fill-opacity: .55; }
svg .offset { stroke: var(--soft); stroke-width: 1.5; fill: none; }
svg .offset.head { fill: var(--soft); stroke: none; }
svg .expected { fill: var(--blue); }
svg .middle { stroke: var(--panel); stroke-width: 2; }
svg .ring { fill: none; stroke: var(--orange); stroke-width: 2.5; }
svg .found { fill: var(--orange); }
svg .astray { stroke: var(--orange); stroke-width: 2; stroke-dasharray: 4 4; }
svg .nothing { stroke: var(--orange); stroke-width: 3; fill: none; }
svg .slope-expected { stroke: var(--blue); stroke-width: 3.5; }
svg .slope-found { stroke: var(--orange); stroke-width: 3.5; }
svg .slope-expected.head { fill: var(--blue); stroke: none; }
svg .slope-found.head { fill: var(--orange); stroke: none; }
.legend { list-style: none; padding: 0; margin: .25rem 0 0; font-size: .9rem; }
.legend li { display: flex; align-items: center; gap: .55rem; margin: .15rem 0; }
.legend svg { flex: none; width: 30px; height: 26px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .9rem .35rem 0;
  border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
details { margin-top: .75rem; } summary { cursor: pointer; color: var(--soft); }
@media (max-width: 40rem) {
  main { padding: 1.25rem .75rem 3rem; } .cause { padding: .9rem; } .picture { padding: .75rem; }
  .diagnosis { font-size: 1.35rem; } .code button { position: static; margin-top: .4rem; }
  .panels { gap: .9rem; } .laws td:nth-child(2), .laws th:nth-child(2) { display: none; } }
@media print {
  :root { --paper: #fff; --panel: #f6f7f9; --ink: #000; --soft: #555; --line: #ccc;
    --blue: #1f6fd0; --orange: #d9610b; --pos: #6db1f7; --neg: #f292ab; --good: #1b7f4b;
    --bad: #c02f2f; --pixel: #fff; --cell: #fff; --on: #fff; }
  body { font-size: 11pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; } .code button { display: none; }
  .points > div > svg { max-width: 19rem; }
  .heats .panels { grid-template-columns: repeat(3, 1fr); }
  .panels > div, .heats, .code, tr, dl { break-inside: avoid; }
  h2, h3, .diagnosis, .about { break-after: avoid; } }
"""

SCRIPT = """
for (const button of document.querySelectorAll("button.copy")) {
  const pre = button.parentElement.querySelector("pre");
  button.hidden = false;
  button.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(pre.textContent); }
    catch {
      const range = document.createRange(), selection = getSelection();
      range.selectNodeContents(pre); selection.removeAllRanges(); selection.addRange(range);
      document.execCommand("copy");
    }
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
}
"""
