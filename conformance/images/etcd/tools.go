//go:build tools

// Package images pins the etcd that the suite's aggregated API server stores its objects in.
package images

import _ "go.etcd.io/etcd/server/v3"
