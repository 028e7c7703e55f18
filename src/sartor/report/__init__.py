"""What a run has to say: terminal table, CSV and JSON, model card, SVG picture, HTML report.

Everything here reads plain records and the JSON files of a run, and needs no torch.

    units.py       numbers as people read them
    files.py       the files of a run, read and checked
    table.py       the front in the terminal, as CSV and as JSON
    story.py       the comparison with the baselines, in sentences
    card.py        the model card
    figure.py      the front as an SVG picture
    axes.py, charts.py      the interactive charts, as Plotly figures
    page.py        what the sections share; page_style.py and page_script.py: its looks
    headline.py, front.py, mistakes.py      the report's first half: the result
    evidence.py    its second half: how it came about
    html.py        the page
    measured/      the page of what sartor measure found
"""
