"""What saved models consist of, folders and single files, told without loading them; and loading
them without bars.
"""
