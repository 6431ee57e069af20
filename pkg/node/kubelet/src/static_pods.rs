//! Static pods: the pods of a folder, and their mirrors in the API.
