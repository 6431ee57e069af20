//go:build tools

// Package images pins the aggregated API server of the suite, which is older than the suite.
package images

import _ "k8s.io/sample-apiserver"
