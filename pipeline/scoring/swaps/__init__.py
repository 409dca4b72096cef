"""Prompts and completions that differ in one attribute of a person: does a score or a policy go by it?"""
