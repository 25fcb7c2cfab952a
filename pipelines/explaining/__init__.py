"""What the words of a prompt are to its picture, as a read-out that changes nothing."""
