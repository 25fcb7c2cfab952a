"""`python -m adhere` is `adhere`."""

from adhere.cli import main

if __name__ == "__main__":
    main()
