"""Lung-nodule detection in CT: a 3-D U-Net with detection, regression and triage heads."""
