// This file finds the name that was probably meant.

package caddydevice

import (
	"slices"
	"strings"
)

// nearest is the candidate that a name was probably meant to be, "" for none:
// one that is a letter or two away, or the only one that has it in it, but for
// those that only go on where that one ends, as client_secret_file does.
func nearest(name string, candidates []string) string {
	name = strings.ToLower(strings.ReplaceAll(name, "-", "_"))
	best, least := "", max(1, min(2, len(name)/3))+1
	var holding []string
	for _, c := range candidates {
		if d := distance(name, strings.ToLower(c)); d < least {
			best, least = c, d
		}
		if len(name) > 3 && strings.Contains(strings.ToLower(c), name) {
			holding = append(holding, c)
		}
	}
	if best != "" || len(holding) == 0 {
		return best
	}
	shortest := slices.MinFunc(holding, func(a, b string) int { return len(a) - len(b) })
	if slices.ContainsFunc(holding, func(c string) bool { return !strings.HasPrefix(c, shortest) }) {
		return ""
	}
	return shortest
}

// distance is how many letters are to be changed, added or left out to get
// from one word to the other (Levenshtein's).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
