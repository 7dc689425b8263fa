"""Names and arguments of other packages over gridfield: switch by changing an import, nothing else."""
