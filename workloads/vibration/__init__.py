"""Vibration analytics at the edge: acceleration waveforms in, features and a bearing's diagnosis out.

    files      records from WAV, CSV, npy (I/O)         spectrum   windows, amplitude, PSD, velocity
    record     a waveform with all that must be known   features   the screening set and the indicators
    quality    is this record fit to be judged?         envelope   whitening and the envelope spectrum
    bearing    defect orders from geometry              diagnose   which part, how sure, on what evidence
    zones      severity limits as data                  trend      baseline, alarms, remaining life
    cli        ``python -m workloads.vibration``        monitor    the streaming workload

Naming a part is easy, staying silent is hard: "no fault of this bearing" and "cannot judge" are answers of their own,
and the second never becomes the first. Nothing here writes to a device.
"""
