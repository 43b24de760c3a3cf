"""Everything that outlives a process: atomic files, arrays, inversions, results."""
