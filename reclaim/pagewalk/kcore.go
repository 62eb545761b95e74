package pagewalk

import "errors"

func openKcoreKernel(*Layout) (*Kernel, error) { return nil, &OffError{NoBPF, errors.New("todo")} }
