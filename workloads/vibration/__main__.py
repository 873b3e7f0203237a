"""``python -m workloads.vibration``: with a verb the command line, without one the workload the agent starts."""

import sys

if len(sys.argv) > 1:
    from workloads.vibration.cli import main

    sys.exit(main())
else:
    from workloads.kit.service import main as serve
    from workloads.vibration.config import VibrationConfig, check
    from workloads.vibration.monitor import VibrationMonitor

    serve("vibration", VibrationConfig, check, VibrationMonitor)
