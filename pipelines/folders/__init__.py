"""What saved models consist of: pipeline folders and single files, told without loading them, and loaded without
bars.
"""
