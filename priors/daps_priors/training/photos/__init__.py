"""How the prior of photographs is trained: pictures at several scales, patches of several sizes."""
