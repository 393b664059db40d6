"""What the paper prints, beside what is counted here."""
