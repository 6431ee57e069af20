// Command kubectl is upstream's kubectl, built from its library.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"

	// Kubeconfigs may name any of client-go's authentication plugins.
	_ "k8s.io/client-go/plugin/pkg/client/auth"
)

func main() {
	// Before flags are parsed, as upstream does: messages of early steps follow -v too.
	logs.GlogSetter(cmd.GetLogVerbosity(os.Args)) //nolint:errcheck // a bad level is reported by the command itself
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
}
