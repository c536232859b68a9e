"""Operations: status, the doctor, supervised processes, and what commands print."""
