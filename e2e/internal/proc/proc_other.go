//go:build !linux

// This file stands in where a program's life cannot be tied to the test process.
package proc

import "syscall"

func attributes() *syscall.SysProcAttr { return nil }
