"""Other models as teachers: they propose rows, checks decide which of them may teach."""
