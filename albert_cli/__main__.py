"""The entry point: Ctrl-C is heard from the first moment on, while the rest of the program is still imported."""

from __future__ import annotations

import os

from albert_cli import interruption


def run() -> None:
    """Run the command line."""
    interruption.handle()
    try:
        from albert_cli.main import main

        main()
    except SystemExit:
        raise
    except BaseException:  # an import that was interrupted may fail in any way
        if (stop := interruption.stopping()) is None:
            raise
        os.write(2, f"albert: interrupted; {interruption.NOTHING}\n".encode())
        raise SystemExit(128 + stop.number) from None


if __name__ == "__main__":
    run()
