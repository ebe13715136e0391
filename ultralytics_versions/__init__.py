"""What differs between the releases of Ultralytics, in one place: the floor on which the other packages stand.

`tested` says which releases are supported, `parts` finds what some of them lack or call otherwise, and
`restricted_loading` reads checkpoints safely where a release cannot. docs/versions.md tells users what they go without.
"""
