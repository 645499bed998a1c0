//go:build tools

// Package tools names what is built of Kubernetes, so that go.mod pins it.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
