// Package session holds a client's sign-in at the gateway: its states and
// transitions, the key that only the client holds, the sealing of what is
// stored, and the claim by which a browser gets a key that nobody saw before.
// It stands on package store and knows neither HTTP nor identity providers.
package session
