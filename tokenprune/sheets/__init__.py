"""Contact sheets: all frames of a sample, kept cells bright and dropped ones dark, as HTML.

A fragment needs no script, no file and no network. Nothing here knows models, runs or tasks.
"""

from tokenprune.sheets.html import css as css
from tokenprune.sheets.html import fragment as fragment
from tokenprune.sheets.html import page as page
from tokenprune.sheets.html import standing as standing
from tokenprune.sheets.sheet import Picture as Picture
from tokenprune.sheets.sheet import Sheet as Sheet
from tokenprune.sheets.thumbnails import Strip as Strip
from tokenprune.sheets.thumbnails import jpeg as jpeg
from tokenprune.sheets.thumbnails import strip as strip
