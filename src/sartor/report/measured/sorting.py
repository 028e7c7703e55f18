"""Sorting tables in the page, and what the measured pages add to the style sheet."""

STYLE = """
table.sortable th{padding:0}table.sortable th button{font:inherit;color:inherit;background:none;border:0;cursor:pointer;
padding:.35rem .45rem;white-space:nowrap}table.sortable th:first-child button{padding-left:.2rem}
table.sortable th button:hover{color:var(--ink)}
table.sortable th[aria-sort] button{color:var(--ink);font-weight:600}
table.sortable th[aria-sort=ascending] button::after{content:" ↑"}
table.sortable th[aria-sort=descending] button::after{content:" ↓"}
table.sortable td{padding:.3rem .45rem;font-size:.84rem}
tfoot td{font-weight:600;border-bottom:0;border-top:1px solid var(--muted)}
table.sortable tbody tr:hover td{background:var(--card)}
table.sortable tbody td:nth-child(5){
background:linear-gradient(to left,rgba(var(--heat),.22) var(--share),transparent 0)}
.compact td{padding:.3rem .5rem;font-size:.84rem}.compact th{padding:.3rem .5rem}
.compact td:last-child{white-space:normal}
h1.long{font-size:clamp(1.7rem,4.2vw,2.6rem);max-width:30ch}
main,header.top,footer{max-width:76rem}
.chart.slim{height:13rem}
"""

SCRIPT = """
(() => {
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, place) => {
      head.firstChild.addEventListener("click", () => {
        const body = table.tBodies[0];
        const value = (row) => row.cells[place].dataset.v ?? "";
        const numbers = [...body.rows].every((row) => value(row) === "" || !isNaN(value(row)));
        const before = head.getAttribute("aria-sort");
        const down = before ? before === "ascending" : numbers && place > 0;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const sign = down ? -1 : 1;
        const order = (a, b) => numbers ? Number(a) - Number(b) : a.localeCompare(b);
        const rows = [...body.rows].sort((a, b) => sign * order(value(a), value(b)));
        body.append(...rows);
      });
    });
  }
})();
"""
