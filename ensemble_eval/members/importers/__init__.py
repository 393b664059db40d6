"""Files of weights of many formats, recognised by their content and read without running code."""
