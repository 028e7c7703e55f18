"""The report's style sheet: paper and ink, one accent a precision, light and dark, fit for print.

A Python module and not a .css file, so that an installed package can never lack it.
"""

STYLE = """
:root{color-scheme:light dark;--paper:#fbfaf7;--card:#f4f1ea;--ink:#1c1b19;--muted:#6b675f;--rule:#e2ddd3;
--fp32:#2f5d8a;--int8:#c2552d;--other:#5f7a3d;--c4:#7a5195;--c5:#b08a1e;--c6:#2d8a83;--heat-low:#e6ecf2;
--good:#3d7a4f;--bad:#b0402a;--heat:47,93,138;--wrong:194,85,45;
--serif:Charter,"Bitstream Charter","Iowan Old Style","Source Serif 4",Georgia,serif;
--sans:Inter,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
--mono:ui-monospace,"SF Mono","Cascadia Code",Menlo,Consolas,"DejaVu Sans Mono",monospace}
@media (prefers-color-scheme:dark){:root{--paper:#171614;--card:#211f1c;--ink:#ece8e1;--muted:#a39d92;--rule:#37332d;
--fp32:#7fb0e0;--int8:#ee9468;--other:#a9c77f;--c4:#c39be0;--c5:#dcb850;--c6:#6cc7bf;--heat-low:#1d2731;
--good:#86c79a;--bad:#ee8a72;--heat:127,176,224;--wrong:238,148,104}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.6 var(--sans);
font-variant-numeric:tabular-nums;text-rendering:optimizeLegibility}
main,header.top,footer{max-width:62rem;margin:0 auto;padding:0 1.5rem}
header.top{display:flex;flex-wrap:wrap;justify-content:space-between;gap:.4rem 2rem;padding-top:1.6rem;
font-size:.85rem;color:var(--muted)}
header.top b{font:600 1.05rem var(--serif);color:var(--ink);letter-spacing:.01em}
header.top nav a{color:var(--muted);text-decoration:none;margin-left:1.1rem}
header.top nav a:hover{color:var(--ink);text-decoration:underline}
.stitch{border:0;border-top:2px dashed var(--rule);margin:1.1rem 0 0}
h1{font:600 clamp(2rem,5.2vw,3.15rem)/1.12 var(--serif);letter-spacing:-.015em;margin:2.6rem 0 .9rem;max-width:22ch;
text-wrap:balance}
h1 em{font-style:normal;color:var(--fp32)}h1 em.int8{color:var(--int8)}h1 em.other{color:var(--other)}
h2{font:600 1.55rem/1.25 var(--serif);letter-spacing:-.01em;margin:0 0 .5rem}
h3{font:600 1rem/1.4 var(--sans);margin:1.9rem 0 .5rem}
section{margin:3.6rem 0 0;padding-top:1.5rem;border-top:2px dashed var(--rule)}
section.result{border:0;margin:0;padding:0}
p{max-width:44rem;margin:.5rem 0 1rem}
.lead{font-size:1.14rem;line-height:1.58}
.quiet,figcaption,.note{color:var(--muted);font-size:.9rem}
a{color:var(--fp32)}
code,pre{font:.86em/1.5 var(--mono)}
pre{background:var(--card);border-radius:6px;padding:.75rem 1rem;white-space:pre-wrap;
overflow-wrap:anywhere;margin:.6rem 0 1rem}
code.inline{background:var(--card);border-radius:4px;padding:.1em .35em}
figure{margin:1rem 0 0}figcaption{margin-top:.4rem;max-width:44rem}
.banner{border-left:3px solid var(--int8);background:var(--card);padding:.7rem 1rem;border-radius:0 6px 6px 0;
margin:1.6rem 0 0}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.2rem,1fr));gap:1px;background:var(--rule);
border:1px solid var(--rule);border-radius:8px;overflow:hidden;margin:1.8rem 0 1.4rem}
.facts div{background:var(--paper);padding:.8rem 1rem .85rem}
.facts dt{font-size:.8rem;color:var(--muted)}
.facts dd{margin:.1rem 0 0;font:600 1.35rem/1.3 var(--serif);white-space:nowrap}
.facts small{display:block;font:400 .78rem/1.45 var(--sans);color:var(--muted);white-space:normal}
.facts .meter{display:block;height:3px;background:var(--rule);border-radius:2px;margin:.45rem 0 .25rem}
.facts .meter i{display:block;height:3px;background:var(--good);border-radius:2px}
.facts .over i{background:var(--bad)}
.chart{height:27rem;margin:0 -.4rem}.chart.tall{height:32rem}.chart.low{height:22rem}
.switch{display:flex;flex-wrap:wrap;gap:.35rem;margin:1rem 0 0}
.switch button{font:500 .84rem var(--sans);color:var(--muted);background:none;border:1px solid var(--rule);
border-radius:99px;padding:.22rem .85rem;cursor:pointer}
.switch button:hover{color:var(--ink)}
.switch button[aria-pressed=true]{color:var(--paper);background:var(--ink);border-color:var(--ink)}
.scroll{overflow-x:auto;margin:.8rem 0 .6rem}
table{border-collapse:collapse;font-size:.9rem}
table.wide{width:100%}
th{font-weight:500;font-size:.8rem;color:var(--muted);text-align:right;padding:.35rem .7rem;
border-bottom:1px solid var(--muted);white-space:nowrap;vertical-align:bottom}
td{text-align:right;padding:.42rem .7rem;border-bottom:1px solid var(--rule);white-space:nowrap}
th:first-child,td:first-child{padding-left:.2rem}
.l{text-align:left}td.wrap{white-space:normal;min-width:16rem}
tr.picked td{background:var(--card);font-weight:600}
.dot{display:inline-block;width:.6em;height:.6em;border-radius:50%;background:var(--other);margin-right:.5em}
.dot.fp32{background:var(--fp32)}.dot.int8{background:var(--int8);border-radius:0;transform:rotate(45deg) scale(.85)}
.tag{font:500 .74rem var(--sans);color:var(--muted);border:1px solid var(--rule);border-radius:99px;
padding:.05rem .5rem;margin-left:.5rem}
.good{color:var(--good)}.bad{color:var(--bad)}
.verdict{font-weight:600;white-space:nowrap}
dl.plain{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1.4rem;font-size:.92rem;margin:.8rem 0}
dl.plain dt{color:var(--muted)}dl.plain dd{margin:0;overflow-wrap:anywhere}
details{margin:1rem 0}summary{cursor:pointer;color:var(--muted);font-size:.92rem}summary:hover{color:var(--ink)}
.bars{display:grid;grid-template-columns:max-content 1fr max-content;gap:.45rem 1rem;align-items:center;
font-size:.92rem;margin:1rem 0}
.bars .stage{max-width:19rem;line-height:1.4}.bars .stage .quiet{font-size:.82rem}
.bars .track{position:relative;height:.95rem;background:var(--card);border-radius:3px}
.bars .track i{position:absolute;inset:0 auto 0 0;background:var(--fp32);border-radius:3px;opacity:.85}
.bars .track b{position:absolute;top:-.22rem;bottom:-.22rem;width:2px;background:var(--ink);opacity:.7}
.bars .time{text-align:right;color:var(--muted)}.bars .time strong{color:var(--ink);font-weight:600}
.confusion{font-size:.8rem}.confusion th{border:0;padding:.2rem .4rem;font-size:.76rem}
.confusion td{border:1px solid var(--paper);text-align:center;padding:.3rem .2rem;min-width:2.6rem;border-radius:3px}
.confusion th.r{text-align:right}.confusion thead th{text-align:center}
.confusion thead th span{writing-mode:vertical-rl;transform:rotate(180deg)}
.two{display:grid;grid-template-columns:minmax(0,max-content) minmax(14rem,1fr);gap:1rem 2.4rem;align-items:start}
.two h3{margin-top:.4rem}
.halves{display:grid;grid-template-columns:1fr 1fr;gap:0 2.4rem}
@media (max-width:52rem){.two,.halves{grid-template-columns:1fr}}
ol.pairs{padding-left:1.2rem;margin:.3rem 0;font-size:.92rem}ol.pairs li{margin:.25rem 0}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(7.4rem,1fr));gap:1rem;margin:1rem 0}
.gallery figure{margin:0;font-size:.82rem;line-height:1.4}
.gallery img{width:100%;aspect-ratio:1;object-fit:cover;border-radius:6px;background:var(--card);display:block;
margin-bottom:.4rem}
.gallery img.tiny{image-rendering:pixelated}
.gallery s{text-decoration:none;color:var(--bad);font-weight:600}
footer{margin-top:4.5rem;padding-bottom:3rem;color:var(--muted);font-size:.85rem}
@media (max-width:40rem){.chart{height:22rem}.bars{grid-template-columns:1fr max-content}
.bars .track{grid-column:1/-1;grid-row:auto}header.top nav a{margin:0 1rem 0 0}}
@media print{header.top nav,.switch{display:none}section{break-inside:avoid}body{font-size:11pt}
main,header.top,footer{max-width:none}}
"""
