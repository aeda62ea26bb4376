"""``python -m tomofly.cli`` is the command ``tomofly``."""

from tomofly.cli.main import main

if __name__ == "__main__":
    main()
