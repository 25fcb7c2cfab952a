"""Methods that edit and mix."""
