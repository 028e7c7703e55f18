"""What ``sartor measure`` found, as a page: one network, or several side by side.

told.py        what was measured, as the sections read it
page.py        the page of one network
compared.py    the page of several
headline.py    the first lines: what it takes, and what it would take at the roof
roofline.py    layers under the machine's roof
waterline.py   efficiency layer by layer, and its level
times.py       where the time goes, by operator and by what bounds it
layers.py      the table of layers; sorting.py lets readers sort it
memory.py      who holds which bytes, step by step
made.py        on what and with what it was measured
"""
