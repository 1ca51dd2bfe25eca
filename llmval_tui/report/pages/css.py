"""The style sheet of the report: light or dark by the reader's setting, black on white in print.

The line colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), adjusted to each background.
"""

CSS = """
:root{color-scheme:light dark;--bg:#fff;--text:#1b1f24;--soft:#57606a;--line:#c9d1d9;--panel:#f6f8fa;
--s0:#0060a0;--s1:#b84a00;--s2:#00755a;--s3:#a0457f;--s4:#5a4fb0;--band:#dbe9f6;
--pass:#116329;--fail:#a40e26;--invalid:#7d4e00;--open:#57606a}
@media (prefers-color-scheme:dark){:root{--bg:#10141a;--text:#e3e8ee;--soft:#a3adb8;--line:#3a434d;--panel:#1a2028;
--s0:#6cb8f0;--s1:#f5a05a;--s2:#4fd0a8;--s3:#e598c8;--s4:#b3a8ff;--band:#1d3146;
--pass:#56d384;--fail:#ff8a84;--invalid:#e8b04b;--open:#a3adb8}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1.25rem 4rem;max-width:68rem;background:var(--bg);color:var(--text);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.7rem;line-height:1.25;margin:.2rem 0 .4rem}
h2{font-size:1.3rem;margin:2.4rem 0 .6rem;padding-bottom:.25rem;border-bottom:2px solid var(--line)}
h3{font-size:1.08rem;margin:1.7rem 0 .4rem}h4{font-size:.98rem;margin:1.1rem 0 .3rem}
p{margin:.4rem 0}.soft,figcaption{color:var(--soft)}a{color:var(--s0)}
nav ol{margin:.3rem 0;padding-left:1.4rem}
.scroll{overflow-x:auto;margin:.6rem 0 1rem}.scroll:focus-visible,a:focus-visible{outline:2px solid var(--s0)}
table{border-collapse:collapse;width:100%;font-size:.9rem}
caption{text-align:left;font-weight:600;padding:.2rem 0}
th,td{text-align:left;vertical-align:top;padding:.32rem .6rem;border-bottom:1px solid var(--line)}
thead th{background:var(--panel);font-weight:600;white-space:nowrap}tbody th{font-weight:500}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
code,pre,.mono{font:.86rem/1.45 ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace}
code{overflow-wrap:anywhere}tbody th code{white-space:nowrap}
td:only-of-type{width:70%}
pre{background:var(--panel);border:1px solid var(--line);border-radius:6px;padding:.7rem .9rem;white-space:pre-wrap;
overflow-wrap:anywhere;margin:.5rem 0}
.word{font-weight:700;white-space:nowrap}
.pass{color:var(--pass)}.fail{color:var(--fail)}.invalid,.inconclusive{color:var(--invalid)}.open{color:var(--open)}
.run{border-top:1px solid var(--line)}
.verdict{border:1px solid var(--line);border-left:6px solid currentColor;border-radius:6px;padding:.6rem .9rem;
margin:.7rem 0}
.verdict p{color:var(--text)}.verdict.first{font-size:1.1rem}
details{margin:.7rem 0}summary{cursor:pointer;color:var(--s0);font-weight:600;padding:.2rem 0}
summary:focus-visible{outline:2px solid var(--s0)}
svg.spark{display:inline-block;width:4.5rem;height:1rem;vertical-align:-.15rem;margin-right:.5rem}
svg.spark polyline{fill:none;stroke:var(--s0);stroke-width:1.3}svg.spark circle{fill:var(--s0)}
.caution{border-left:6px solid var(--invalid);background:var(--panel);padding:.5rem .9rem}
figure{margin:.9rem 0 1.2rem}svg{display:block;width:100%;height:auto}
.three{display:grid;grid-template-columns:repeat(auto-fit,minmax(26rem,1fr));gap:.6rem 1.2rem}
figcaption{font-size:.9rem;margin-bottom:.2rem}figcaption b{color:var(--text)}
svg text{fill:var(--soft);font:11px system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
svg .label{fill:var(--text);font-weight:600;font-size:12px}svg .note{text-anchor:end}
svg path,svg rect,svg circle{fill:none}
svg .grid{stroke:var(--line);stroke-width:.6}svg .axis{stroke:var(--soft);stroke-width:1}
svg .phase{stroke:var(--soft);stroke-width:.8;stroke-dasharray:2 3}
svg .limit{stroke:var(--fail);stroke-width:1.2;stroke-dasharray:9 4}
svg rect.measured{fill:var(--band)}svg .box{stroke:var(--soft);stroke-width:.8}
svg .line{stroke-width:1.5;stroke-linejoin:round}svg .band{stroke:none;opacity:.28}
svg .line.s0{stroke:var(--s0)}svg .line.s1{stroke:var(--s1);stroke-dasharray:7 3}
svg .line.s2{stroke:var(--s2);stroke-dasharray:2 2}svg .line.s3{stroke:var(--s3);stroke-dasharray:10 3 2 3}
svg .line.s4{stroke:var(--s4);stroke-dasharray:5 2 1 2 1 2}
svg .band.s0{fill:var(--s0)}svg .band.s1{fill:var(--s1)}svg .band.s2{fill:var(--s2)}svg .band.s3{fill:var(--s3)}
svg .band.s4{fill:var(--s4)}
svg .mark{fill:var(--bg);stroke-width:1.3}
svg .mark.s0{stroke:var(--s0)}svg .mark.s1{stroke:var(--s1)}svg .mark.s2{stroke:var(--s2)}svg .mark.s3{stroke:var(--s3)}
svg .mark.s4{stroke:var(--s4)}
footer{margin-top:3rem;color:var(--soft);font-size:.9rem;border-top:1px solid var(--line);padding-top:.6rem}
@media print{details::details-content{content-visibility:visible;block-size:auto}summary{color:inherit}
:root{color-scheme:light;--bg:#fff;--text:#000;--soft:#444;--line:#bbb;--panel:#f4f4f4;
--s0:#0060a0;--s1:#b84a00;--s2:#00755a;--s3:#a0457f;--s4:#5a4fb0;--band:#dbe9f6;
--pass:#116329;--fail:#a40e26;--invalid:#7d4e00;--open:#444}
body{max-width:none;padding:0;font-size:10pt}.scroll{overflow:visible}nav{display:none}
figure,tr,.verdict,pre{break-inside:avoid}h2,h3,h4,figcaption{break-after:avoid}thead{display:table-header-group}
tbody th code{white-space:normal}
svg rect.measured,thead th,pre{print-color-adjust:exact;-webkit-print-color-adjust:exact}a{color:inherit}}
"""
