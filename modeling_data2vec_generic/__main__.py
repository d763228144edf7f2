"""`python -m modeling_data2vec_generic` is the console command `data2vec`."""

from .commands.console import main

if __name__ == "__main__":
    main()
