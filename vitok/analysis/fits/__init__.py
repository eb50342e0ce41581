"""Fits of a metric along a column: `log_linear`, `parabolas`, `power_law`. Each takes the rows of finished cells and a metric's name."""

from vitok.analysis.fits.lines import LogLinearFit, log_linear
from vitok.analysis.fits.parabola import Parabolas, parabolas
from vitok.analysis.fits.power_laws import PowerLaw, power_law

__all__ = ["LogLinearFit", "Parabolas", "PowerLaw", "log_linear", "parabolas", "power_law"]
