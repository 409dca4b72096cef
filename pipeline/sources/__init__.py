"""Where rows come from: files of many kinds, directories, the Hub."""
