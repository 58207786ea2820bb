"""The package beside well-known ones, as a project has them, with settings of their own."""
