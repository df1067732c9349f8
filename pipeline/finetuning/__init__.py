"""The stage `finetune`: where the network is cut, what its tail is fed, the loop, and how it resumes."""
