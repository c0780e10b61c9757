// This file ties the life of a program to that of the test process.
package proc

import "syscall"

// attributes lets the kernel end the program when the test process dies
// without its clean-up, as at a test's time limit.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
