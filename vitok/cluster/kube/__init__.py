"""Kubernetes objects as the rules read them. Whether they have the right keys and types is for the schemas to say, as far as a package
carries one (`vitok.cluster.schemas`); KubeRay's and Kueue's are written out here."""
