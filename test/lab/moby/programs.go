//go:build programs

// Question: which programs does the lab build of Docker's source? Nothing of this file is built: it
// keeps what these programs import in go.mod and go.sum.
package programs

import (
	_ "github.com/moby/moby/v2/cmd/dockerd"
)
