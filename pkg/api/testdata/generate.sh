#!/bin/sh
# Writes published.tsv.gz: objects as upstream's own serializers encode them, for the codecs' tests. Needs Go.
set -eu
cd "$(dirname "$0")/generate"
export GOFLAGS=-mod=mod
api=$(go mod download -json k8s.io/api@v0.37.0 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
go run . "$api/testdata/HEAD" | gzip -9n >../published.tsv.gz
