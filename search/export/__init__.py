"""Export to other runtimes: conversion, quantisation, comparison with the checkpoint."""
