// Package page makes what a person or a program reads: it negotiates the
// format, and writes one answer as HTML, text or JSON, with the QR code that
// fits each. It imports nothing of ours: what it shows is what it is given.
package page
